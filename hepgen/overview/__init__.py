"""The samples side by side, before anything is learnt from them: what a physicist looks at first."""
