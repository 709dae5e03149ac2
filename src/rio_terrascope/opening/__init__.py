"""Opening a URL of the origins: where it leads, how a server refuses it, and what GDAL is given."""
