"""Finds the videos behind the sources of a run: files, folders, globs, lists and S3 prefixes."""
