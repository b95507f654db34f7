"""Incremental backups of a disk that is written meanwhile, pulled from cairnd over NBD."""
