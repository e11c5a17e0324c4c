"""Plugins that hold parameters or outputs near what past experiences made them."""
