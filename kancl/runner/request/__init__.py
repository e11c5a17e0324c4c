"""From what was typed to checked configurations."""
