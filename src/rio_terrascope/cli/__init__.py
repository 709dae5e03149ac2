"""The command ``tsread``, also ``rio terrascope``: one file a family of commands."""
