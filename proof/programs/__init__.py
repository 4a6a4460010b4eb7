"""One module per command of ``proof/``, started by ``launch`` as its main program."""
