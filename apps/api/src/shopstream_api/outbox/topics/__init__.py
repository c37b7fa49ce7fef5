"""What an operator does about topics: look, adopt, apply (protocol rules 13 and 14)."""
