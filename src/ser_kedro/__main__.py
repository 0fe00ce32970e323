"""``python -m ser_kedro`` is the ``ser-kedro`` command."""

from ser_kedro.cli.main import main

if __name__ == "__main__":
    main()
