"""One module per sub-command of `kexue`: NAME, HELP, add_arguments(parser), run(args) -> int."""
