"""The pages of the dashboard, one module each: TITLE, SUBTITLE, ICON, and `draw`, which gets the frame."""
