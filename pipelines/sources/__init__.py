"""Sources of a run: files, folders, globs, lists and S3 prefixes to videos."""
