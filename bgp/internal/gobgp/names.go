package gobgp

import "github.com/osrg/gobgp/v4/api"

// Names of the library's numbers. It has its own, but asking for them unpacks the
// descriptions of all messages, a quarter of a megabyte.

const established = "established"

func sessionName(s api.PeerState_SessionState) string {
	switch s {
	case api.PeerState_SESSION_STATE_ESTABLISHED:
		return established
	case api.PeerState_SESSION_STATE_OPENCONFIRM:
		return "openconfirm"
	case api.PeerState_SESSION_STATE_OPENSENT:
		return "opensent"
	case api.PeerState_SESSION_STATE_ACTIVE:
		return "active"
	case api.PeerState_SESSION_STATE_CONNECT:
		return "connect"
	default:
		return "idle"
	}
}

func bfdName(s api.BfdSessionState) string {
	switch s {
	case api.BfdSessionState_BFD_SESSION_STATE_UP:
		return "up"
	case api.BfdSessionState_BFD_SESSION_STATE_INIT:
		return "init"
	case api.BfdSessionState_BFD_SESSION_STATE_ADMIN_DOWN:
		return "admin-down"
	default:
		return "down"
	}
}

// endName says why a session ended; "" where that is not known.
func endName(r api.PeerState_DisconnectReason) string {
	switch r {
	case api.PeerState_DISCONNECT_REASON_ADMIN_DOWN:
		return "disabled"
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		return "hold timer expired"
	case api.PeerState_DISCONNECT_REASON_NOTIFICATION_SENT:
		return "notification sent"
	case api.PeerState_DISCONNECT_REASON_NOTIFICATION_RECEIVED:
		return "notification received"
	case api.PeerState_DISCONNECT_REASON_READ_FAILED:
		return "connection lost"
	case api.PeerState_DISCONNECT_REASON_WRITE_FAILED:
		return "cannot write to the connection"
	case api.PeerState_DISCONNECT_REASON_RESTART_TIMER_EXPIRED:
		return "did not come back in its restart time"
	case api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:
		return "restarts gracefully"
	case api.PeerState_DISCONNECT_REASON_INVALID_MSG:
		return "invalid message"
	case api.PeerState_DISCONNECT_REASON_HARD_RESET:
		return "hard reset"
	case api.PeerState_DISCONNECT_REASON_DECONFIGURED:
		return "no longer configured"
	case api.PeerState_DISCONNECT_REASON_BAD_PEER_AS:
		return "the neighbour has another AS number"
	default:
		return ""
	}
}
