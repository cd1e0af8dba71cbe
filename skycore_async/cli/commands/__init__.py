"""One module a command; each has the click command at its top, under the module's name."""
