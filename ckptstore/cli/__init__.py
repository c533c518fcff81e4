"""The command line: what the library does, for people and for scripts. Needs the extra ``cli`` (typer and rich)."""
