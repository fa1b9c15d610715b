"""The sections of the page of `calot explain`: each reads back what the part of the same name wrote."""
