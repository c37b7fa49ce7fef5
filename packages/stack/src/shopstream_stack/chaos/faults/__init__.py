"""How each kind of fault is made and measured, a module a family."""
