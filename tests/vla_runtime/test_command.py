"""How a command ends, whatever went wrong in it."""

from __future__ import annotations

import pytest

from vla_runtime import command
from vla_runtime.errors import BadInput, WorkFailed


def _words(*words: str) -> int:
    parser = command.Parser(prog="vla-test")
    parser.add_subparsers(required=True, metavar="VERB").add_parser("go").add_argument("--count", type=int)
    return command.run(lambda: int(parser.parse_args(words).count))


def test_what_main_returns_is_the_exit_code() -> None:
    assert _words("go", "--count", "3") == 3


@pytest.mark.parametrize("words", [(), ("stay",), ("go", "--count", "few"), ("go", "--far")])
def test_bad_usage_is_one_line_that_names_the_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _words(*words) == command.BAD_USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert "; see vla-test" in printed.err
    assert printed.err.endswith("--help\n")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("error", "code"), [(BadInput, 2), (WorkFailed, 1)])
def test_an_error_is_one_line_and_its_code(
    error: type[Exception], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error("this\nis wrong")

    assert command.run(fail) == code
    assert capsys.readouterr().err == "error: this is wrong\n"
