"""What all commands share: options, settings, progress, exit codes."""
