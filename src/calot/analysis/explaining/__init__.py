"""The parts of `calot explain`: each is one file here, named like its section in `calot.report.explaining`."""
