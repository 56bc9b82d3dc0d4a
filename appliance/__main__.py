"""Entry point of ``r1box``: runs a command and turns every typed error into a plain line and an exit code."""

from __future__ import annotations

import sys

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted."""
    import typer

    from appliance.cli.app import app
    from appliance.cli.output import print_error
    from appliance.errors import describe, is_typed

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except Exception as error:
        if not is_typed(error):
            raise
        print_error(describe(error), log_tail=getattr(error, "log_tail", ()))
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
