"""What commands do, a module for each and for what some share: loaded as they run, not for help.

A command whose work takes several modules has a folder of its own beside this one, and is
what `action` there does.
"""
