"""Pictures of a scene, rendered off screen."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from vla_runtime.sim.scene import Scene

_LARGEST = 2048  # [pixels]
_REMEDY = "install one of them with `sudo apt-get install libegl1` or `sudo apt-get install libosmesa6`"


class Cameras:
    """The scene's cameras at one size of picture. Lives in the thread that made it, as OpenGL does."""

    def __init__(self, scene: Scene, height: int, width: int, *, samples: int = 0) -> None:
        """``samples``: a pixel; 4 smooths the edges of a film, at twice the time.

        Raises `BadInput` for a size beyond every graphics driver, `WorkFailed` where nothing can render.
        """
        import mujoco

        if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
            raise BadInput(f"pictures of {height}×{width} pixels: give 1 to {_LARGEST}")
        self._scene = scene
        self._size = (height, width)
        self._mujoco = mujoco
        self._gl = _context(height, width)
        self._gl.make_current()
        self._drawing = mujoco.MjvScene(scene.model, maxgeom=1000)
        self._options = mujoco.MjvOption()
        visual = scene.model.vis  # read by the next line and by nothing else
        visual.global_.offheight, visual.global_.offwidth, visual.quality.offsamples = height, width, samples
        self._buffers = mujoco.MjrContext(scene.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._buffers)
        self._release = weakref.finalize(self, _release, self._gl, self._buffers)
        self._release.atexit = False  # the driver goes first then

    def render(self, camera: str) -> NDArray[np.uint8]:
        """What ``camera`` sees now, RGB. Shape (height, width, 3). Raises `BadInput` for a camera the scene lacks."""
        model, mujoco = self._scene.model, self._mujoco
        names = [model.camera(index).name for index in range(model.ncam)]
        if camera not in names:
            raise BadInput(f"camera '{camera}' is not in the scene: it has {', '.join(names)}")
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, names.index(camera)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        with self._scene.lock:
            mujoco.mjv_updateScene(model, self._scene.data, self._options, None, view, everything, self._drawing)
        self._gl.make_current()
        height, width = self._size
        picture = np.empty((height, width, 3), dtype=np.uint8)
        window = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(window, self._drawing, self._buffers)
        mujoco.mjr_readPixels(picture, None, window, self._buffers)
        return np.ascontiguousarray(picture[::-1])  # OpenGL counts rows from the bottom

    def close(self) -> None:
        """Free the buffers. The cameras are of no use afterwards."""
        self._release()


def _release(gl: Any, buffers: Any) -> None:
    """Free the buffers in the context they belong to: in another one, the same numbers are another's buffers."""
    gl.make_current()
    buffers.free()
    gl.free()


def _context(height: int, width: int) -> Any:
    """An OpenGL context without a window: EGL where a driver offers it, else OSMesa; MUJOCO_GL chooses explicitly.

    MuJoCo's own choice is made once, when it is imported, so it comes too late for a library.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    backend = chosen if chosen in ("egl", "osmesa") else _available()
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        return GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError) as error:  # what PyOpenGL and MuJoCo raise for a missing driver
        raise WorkFailed(f"{backend} cannot render ({error}): {_REMEDY}") from error


def _available() -> str:
    """Which of the two this machine has; asked of the system, because PyOpenGL can be loaded for one of them only."""
    if _loads("libEGL.so.1") and _egl_devices() > 0:
        return "egl"
    if any(_loads(name) for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")):
        return "osmesa"
    raise WorkFailed(f"neither EGL nor OSMesa is on this machine, so no camera can be rendered: {_REMEDY}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _egl_devices() -> int:
    """How many devices EGL can render on, software included (EGL_EXT_device_enumeration)."""
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return 0
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
    count = ctypes.c_int(0)
    return count.value if query(0, None, ctypes.byref(count)) else 0
