"""What the output layer learns from: closed forms, and losses over some classes."""
