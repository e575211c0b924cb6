"""Writing a policy bundle so that nobody ever sees half of one."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from vla_runtime.bundle.bundle import MANIFEST, Bundle, sha256
from vla_runtime.bundle.manifest import Manifest
from vla_runtime.errors import BadInput


class BundleWriter:
    """Collects a bundle's files in a hidden directory beside the target and renames it into place when complete.

        with BundleWriter(target) as writer:
            (writer.root / "golden.safetensors").write_bytes(...)
            bundle = writer.finish(lambda files: Manifest(..., files=files))

    Leaving the block without `finish`, by an error or otherwise, removes what was collected; an older bundle at the
    target stays until the new one is complete.
    """

    def __init__(self, target: Path | str) -> None:
        self._target = Path(os.path.abspath(target))
        self.root = self._sibling("partial")

    def __enter__(self) -> BundleWriter:
        """Make the hidden directory; raises `BadInput` where the target is something other than an older bundle."""
        target = self._target
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise BadInput(f"{target} is in the way: a bundle is a directory; choose another name")
        if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise BadInput(f"{target} holds other files and is not a bundle: choose another name")
        try:
            self.root.mkdir(parents=True)
        except OSError as error:
            raise BadInput(f"cannot write in {target.parent}: {error.strerror}; choose another place") from error
        return self

    def finish(self, build_manifest: Callable[[dict[str, str]], Manifest]) -> Bundle:
        """Digest every file, write the manifest last, check the whole and rename it into place.

        ``build_manifest`` gets the SHA-256 of every file by its path inside the bundle.
        """
        digests = {path: sha256(path) for path in sorted(self.root.rglob("*")) if not path.is_dir()}
        manifest = build_manifest({path.relative_to(self.root).as_posix(): digests[path] for path in digests})
        (self.root / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        Bundle.open(self.root, digests.__getitem__)  # a large bundle takes long to read: once is enough
        self._rename_into_place()
        return Bundle(self._target, manifest)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.root.exists():
            shutil.rmtree(self.root)

    def _rename_into_place(self) -> None:
        if not self._target.exists():
            self.root.rename(self._target)
            return
        old = self._sibling("replaced")
        self._target.rename(old)
        try:
            self.root.rename(self._target)
        except OSError:
            old.rename(self._target)
            raise
        shutil.rmtree(old)

    def _sibling(self, what: str) -> Path:
        return self._target.with_name(f".{self._target.name}.{what}-{secrets.token_hex(4)}")
