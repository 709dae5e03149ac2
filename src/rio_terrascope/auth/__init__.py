"""The login: credentials, grants, the saved login, and tokens that never lapse."""
