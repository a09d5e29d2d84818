"""Pictures in a window, as they come."""

import os
import sys

import numpy as np

_ESCAPE = 27


def check_display() -> None:
    """Finds out before the work whether a window can be shown.

    Without a display the toolkit inside OpenCV ends the whole process, so that there is no error to
    catch when the first picture is shown.

    Raises:
        OSError: there is no display, or OpenCV was built without windows.
    """
    import cv2

    # X11 and Wayland name the display in the environment
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in displays):
        raise OSError(
            "no window can be shown: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is "
            "set); `maskrcnn video IN --output result.mp4` writes a video instead"
        )
    if "GUI: NONE" in " ".join(cv2.getBuildInformation().split()):
        raise OSError(
            "no window can be shown: this OpenCV has none (opencv-python-headless); install "
            "opencv-python"
        )


def shown_until_escape(picture: np.ndarray, title: str) -> bool:
    """Shows a picture in the window of a title.

    Args:
        picture: (H, W, 3) uint8, BGR.

    Returns:
        Whether Escape was pressed since the last picture.
    """
    import cv2

    cv2.imshow(title, np.ascontiguousarray(picture))
    return cv2.waitKey(1) == _ESCAPE
