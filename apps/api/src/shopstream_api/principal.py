"""Who is asking. Every command takes a Principal, so that identity can come later by itself."""

from dataclasses import dataclass

from shopstream_api.errors import Forbidden, NotFound


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. In open mode ``seller_id`` is X-Seller-Id; None may act for any seller."""

    seller_id: str | None = None

    def owns(self, seller_id: str) -> bool:
        return self.seller_id is None or self.seller_id == seller_id

    def require_owner(self, seller_id: str, what: str) -> None:
        """Raises NotFound: another seller's resource does not exist for this caller."""
        if not self.owns(seller_id):
            raise NotFound(f"There is no such {what}.")

    def act_for(self, seller_id: str) -> str:
        """The seller to write for. Raises Forbidden when the caller is another one."""
        if not self.owns(seller_id):
            raise Forbidden("The body names another seller than the caller.")
        return seller_id


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a request leaves on the events it causes and on the audit trail."""

    request_id: str
    correlation_id: str | None = None
    traceparent: str | None = None
