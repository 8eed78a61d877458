"""The control API: what the command line does to a project, over HTTP, for people and for CI."""
