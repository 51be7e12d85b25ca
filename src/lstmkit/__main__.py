"""The command ``lstmkit``, which is ``python -m lstmkit`` too."""

from __future__ import annotations

import sys

from lstmkit.errors import MissingLibraryError
from lstmkit.libraries import imports_of


def main() -> None:
    """Run the command line. Without its libraries one line names the extra, with exit code 2."""
    try:
        with imports_of("jobs", "the command line"):
            from lstmkit import cli
    except MissingLibraryError as err:
        print(f"error: {err}", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
