"""Why something was forgotten: plugins that look and change no training."""
