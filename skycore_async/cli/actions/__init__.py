"""What commands do, one module a command: loaded when the command runs, and not for its help.

A command whose work takes more than one module has a folder of its own beside this one.
"""
