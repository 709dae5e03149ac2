"""What the commands compute: classes, statistics, areas, pictures and files."""
