"""The help of every command as one page, as the commands print it."""

from collections.abc import Iterator

import click

WIDTH = 72


def command_line() -> click.Group:
    """The command ``autoreg``."""
    from autoreg import cli

    return next(value for value in vars(cli).values() if isinstance(value, click.Group))


def commands(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for the command and for all commands below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from commands(found, child, context)


def render() -> str:
    """Markdown: one heading a command, below it what ``--help`` prints."""
    parts = []
    for context in commands(command_line(), "autoreg"):
        parts.append(f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)
