"""The `keras-optlab` command. Apart from the package, because TensorFlow writes to the terminal while it is imported."""

import os
import sys
import time


def main() -> int:
    started = time.monotonic()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    terminal = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        from keras_optlab import cli
    except KeyboardInterrupt:
        return 130
    finally:
        os.dup2(terminal, 2)
        os.close(silence)
        os.close(terminal)
    return cli.main(started=started)


if __name__ == "__main__":
    sys.exit(main())
