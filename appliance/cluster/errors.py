"""What can be wrong when several boxes work as one."""

from __future__ import annotations

from appliance.errors import AppError, EngineStartFailed


class NoCluster(AppError):
    """This box belongs to no cluster."""

    code = "no_cluster"
    http_status = 409
    template = "This box belongs to no cluster."
    hint_template = "Begin one with: r1box cluster init --address ADDRESS. Or join one: r1box cluster join TOKEN"


class AlreadyInCluster(AppError):
    """A box belongs to one cluster at most."""

    code = "already_in_cluster"
    http_status = 409
    template = "This box belongs to the cluster {cluster} already, as its {role}."
    hint_template = "r1box cluster leave ends that."


class NotTheLeader(AppError):
    """Only the box that began the cluster does that."""

    code = "not_the_leader"
    http_status = 409
    template = "This box does not lead the cluster; {leader} does."
    hint_template = "Give the command there."


class ClusterHasBoxes(AppError):
    """A leader does not leave others behind by mistake."""

    code = "cluster_has_boxes"
    http_status = 409
    template = "This box leads the cluster, and others belong to it: {boxes}."
    hint_template = "Let them leave first, or end the cluster for all with: r1box cluster leave --force"


class BadBoxName(AppError):
    """The name cannot be used."""

    code = "bad_box_name"
    http_status = 400
    template = "{name!r} is no name for a box."
    hint_template = "Use 1 to 63 small letters, digits and hyphens, such as: box-2"


class BoxNameTaken(AppError):
    """Another box of the cluster has the name."""

    code = "box_name_taken"
    http_status = 409
    template = "A box of the cluster has the name {name} already."
    hint_template = "Give another with: r1box cluster join --name NAME TOKEN"


class BoxNotFound(AppError):
    """No box of the cluster has the name."""

    code = "box_not_found"
    http_status = 404
    template = "The cluster has no box {name!r}. It has: {boxes}."


class BadAddress(AppError):
    """Something that is no IP address of this machine with a port."""

    code = "bad_address"
    http_status = 400
    template = "{address!r} cannot be used as this box's address among the boxes: {reason}."
    hint_template = "Give an IP address of this box on the link between the boxes, such as --address 10.0.0.1"


class BadInvitation(AppError):
    """A token that is none, or is mistyped."""

    code = "bad_invitation"
    http_status = 400
    template = "This is no token of a cluster: {reason}."
    hint_template = "r1box cluster invite on the leading box prints one; copy the whole line."


class InvitationRefused(AppError):
    """The token is unknown, was used, or has expired; the leader does not tell strangers which."""

    code = "invitation_refused"
    http_status = 403
    template = "The token is not valid: it was used already, has expired, or is of another cluster."
    hint_template = "Make another on the leading box with: r1box cluster invite"


class NotTheInviter(AppError):
    """What answers at the address does not have the cluster's certificate authority."""

    code = "not_the_inviter"
    http_status = 502
    template = "What answers at {address} is not the box that made the token; nothing was sent to it."
    hint_template = "Check the address, and whether something stands between the boxes. Then make a new token."


class LeaderUnreachable(AppError):
    """The leading box does not answer."""

    code = "leader_unreachable"
    http_status = 503
    template = "The leading box does not answer at {address}: {reason}"
    hint_template = "Check that r1box serve runs there and that its cluster port is open to this box."


class RemovedFromCluster(AppError):
    """The leader has taken this box out, or never let it in."""

    code = "removed_from_cluster"
    http_status = 403
    template = "The leading box does not know this box (any more)."
    hint_template = "r1box cluster leave, then join again with a new token."


class LeaderRefused(AppError):
    """The leader answered something else than expected."""

    code = "leader_refused"
    http_status = 502
    template = "The leading box refused: {reason}"


class ClusterFileUnusable(AppError):
    """The file with the cluster's members cannot be read or written."""

    code = "cluster_file_unusable"
    template = "The cluster's file {path} cannot be used: {reason}."


class NotForBoxes(AppError):
    """A form that is not divided over boxes."""

    code = "not_for_boxes"
    http_status = 400
    template = "{model} is {format}; only models in safetensors are served by several boxes together."
    hint_template = "docs/engines.md says what serves which."


class BoxesDiffer(AppError):
    """Boxes that cannot work on one model because they are not alike."""

    code = "boxes_differ"
    http_status = 409
    template = "The boxes cannot serve it together: {reason}."
    hint_template = "r1box cluster status shows what each has."


class BoxesMissing(EngineStartFailed):
    """A model over several boxes needs all of them."""

    code = "boxes_missing"
    template = "The model is served by several boxes together: {cause}"
    hint_template = "r1box cluster status shows each box. One that is gone for good: r1box cluster remove NAME"

    def __init__(self, *, reason: str) -> None:
        super().__init__(cause=reason, cause_code=self.code)
