"""The shopstream command: local stack, demo and checks."""
