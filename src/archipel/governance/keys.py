"""Identity keys: Ed25519, made where they are used, kept for life, never sent anywhere (RFC 8032)."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from archipel.storage import write_private
from archipel.vocabulary import ArchipelError, ErrorCode, Thing


class IdentityKey:
    """A private Ed25519 key; ``public`` names it everywhere else as ``ed25519:<64 hex digits>``."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = f"ed25519:{raw.hex()}"

    @classmethod
    def generate(cls) -> IdentityKey:
        """A new key from the operating system's random generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> IdentityKey:
        """The key kept at ``path``. Raises ArchipelError when there is none or it is of another kind."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ArchipelError(
                Thing.file(path),
                "holds no readable identity key",
                "restore it from the backup",
                code=ErrorCode.CONFIGURATION,
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ArchipelError(
                Thing.file(path),
                "is not an Ed25519 key",
                "restore the identity key made at init",
                code=ErrorCode.CONFIGURATION,
            )
        return cls(key)

    def save(self, path: Path) -> None:
        """Keep the key at ``path``, readable by its owner only."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem)

    def sign(self, message: bytes) -> str:
        """The signature over ``message``, as hex."""
        return self._private.sign(message).hex()


def verify(public: str, signature: str, message: bytes) -> bool:
    """Whether ``signature`` (hex) over ``message`` was made by the key ``public`` (``ed25519:<hex>``)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public.removeprefix("ed25519:")))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True
