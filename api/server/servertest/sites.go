package servertest

import (
	"context"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Attachments tells of none.
func (b *Backend) Attachments(context.Context, hnv.Name, hnv.Name) ([]v1.AttachmentStatus, error) {
	return nil, nil
}

// S2SStatus tells of none.
func (b *Backend) S2SStatus(context.Context, hnv.Name, hnv.Name) ([]v1.S2SStatus, error) {
	return nil, nil
}

// PeerConfig knows no connection.
func (b *Backend) PeerConfig(_ context.Context, tenant, name, _ hnv.Name) (v1.S2SPeerConfig, error) {
	return v1.S2SPeerConfig{}, absent("site-to-site connection %s/%s does not exist", tenant, name)
}

// BGPStatus knows no router.
func (b *Backend) BGPStatus(_ context.Context, tenant hnv.Name) (v1.BGPStatus, error) {
	return v1.BGPStatus{}, absent("tenant %s has no BGP router", tenant)
}

// BGPRoutes knows no router.
func (b *Backend) BGPRoutes(_ context.Context, tenant hnv.Name, _ v1.BGPRouteQuery) ([]v1.BGPRoute, bool, error) {
	return nil, false, absent("tenant %s has no BGP router", tenant)
}

// BGPSoftReset knows no router.
func (b *Backend) BGPSoftReset(_ context.Context, tenant hnv.Name, _ v1.BGPSoftReset) error {
	return absent("tenant %s has no BGP router", tenant)
}

// Path knows the default route alone.
func (b *Backend) Path(_ context.Context, tenant hnv.Name, q v1.PathQuery) (v1.PathExplanation, error) {
	return v1.PathExplanation{
		Tenant: tenant.String(), Dst: q.Dst, Src: q.Src, Via: v1.ViaNAT, Through: "internet", Reason: "no other route leads there",
		Route:      &v1.PathRoute{Prefix: "0.0.0.0/0", NextHops: []v1.PathHop{{Interface: "ext"}}, From: "nat"},
		Translated: "the source becomes an address of the NAT pool", MTU: 1500,
	}, nil
}
