"""Opening a URL of the origins: where it leads, who refuses it, and what GDAL is given."""
