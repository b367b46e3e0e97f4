"""Refined masks inside rembg: `rembg.remove(image, session=sparserefine.rembg.session())`.

rembg itself is imported when it is first needed, not before.
"""

from sparserefine.rembg.refined_session import RefinedSession, session
from sparserefine.rembg.registration import register

__all__ = ["RefinedSession", "register", "session"]
