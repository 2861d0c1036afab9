"""The group of all commands. It turns errors into exit codes."""

from typing import Any

import click

from rlssl import __version__
from rlssl.errors import ExitCode, ResourceError, SpecError
from rlssl.plugins import with_line
from rlssl.system.interrupts import signals_interrupt


class _Cli(click.Group):
    """Prints errors of the user or the cluster as one message, and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals_interrupt():
                return super().invoke(ctx)
        except SpecError as error:
            code, message = ExitCode.WRONG_SPEC, str(error)
        except BrokenPipeError:
            raise  # the reader, such as `head`, has enough: click ends quietly
        except (ResourceError, OSError) as error:
            code, message = ExitCode.NO_RESOURCES, str(error)
        except KeyboardInterrupt:
            code, message = ExitCode.INTERRUPTED, "interrupted."
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            # The last line on the terminal, below the traceback, if a plug-in has raised it.
            if (located := with_line(words, error)) != words:
                error.add_note(f"error: {located}")
            raise
        click.echo(f"error: {message}", err=True)
        ctx.exit(code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of definition, not alphabetical


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rlssl")
def main() -> None:
    """Self-supervised reinforcement learning on RLlib."""
