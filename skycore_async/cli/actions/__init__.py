"""What commands do, one module a command: loaded when the command runs, and not for its help.

A command whose work takes several modules has a folder of its own beside this one, and is
what `action` there does.
"""
