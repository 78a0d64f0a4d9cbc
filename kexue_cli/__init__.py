"""kexue-run: the experiments of the blog 科学空间 (kexue.fm) as one-line commands."""

__version__ = "0.1.0"
