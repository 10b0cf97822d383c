"""The dashboard: Streamlit pages that read stores and APIs through `aura`, never the definitions."""
