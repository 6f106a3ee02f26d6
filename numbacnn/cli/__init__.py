"""The command ``numbacnn``: a file for each of its subcommands, and what they share."""
