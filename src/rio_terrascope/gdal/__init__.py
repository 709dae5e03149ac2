"""Everything about libgdal, and nothing about logins."""
