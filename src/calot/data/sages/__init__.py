"""The SAGES CVS challenge of 2024 and of 2025."""
