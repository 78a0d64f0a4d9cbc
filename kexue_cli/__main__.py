"""`python -m kexue_cli`, so that torchrun can start it."""

from kexue_cli.cli import main

if __name__ == "__main__":
    main()
