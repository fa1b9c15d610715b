"""What was done to clips and labels, measured from before and after alone: nothing here asks the code that did it."""
