"""The work of the commands, one module each; it is loaded when a command runs, not for its help.

A command whose work takes several modules has a folder beside this one, with a module `action`.
"""
