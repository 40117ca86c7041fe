package nft

// Numbers of include/uapi/linux/netfilter/nf_tables.h.
const (
	subsystem = 10 // NFNL_SUBSYS_NFTABLES

	msgNewTable   = subsystem<<8 | 0
	msgGetTable   = subsystem<<8 | 1
	msgDelTable   = subsystem<<8 | 2
	msgNewChain   = subsystem<<8 | 3
	msgGetChain   = subsystem<<8 | 4
	msgDelChain   = subsystem<<8 | 5
	msgNewRule    = subsystem<<8 | 6
	msgGetRule    = subsystem<<8 | 7
	msgDelRule    = subsystem<<8 | 8
	msgNewSet     = subsystem<<8 | 9
	msgGetSet     = subsystem<<8 | 10
	msgDelSet     = subsystem<<8 | 11
	msgNewSetElem = subsystem<<8 | 12
	msgGetSetElem = subsystem<<8 | 13
	msgDelSetElem = subsystem<<8 | 14
	msgGetGen     = subsystem<<8 | 16
	msgNewObj     = subsystem<<8 | 18
	msgGetObj     = subsystem<<8 | 19
	msgDelObj     = subsystem<<8 | 20

	listElem = 1 // NFTA_LIST_ELEM

	tableName  = 1 // also the table's name in messages of chains, rules, sets and objects
	tableFlags = 2

	chainName   = 3
	chainHook   = 4
	chainPolicy = 5
	chainType   = 7
	// NFTA_CHAIN_USERDATA; kernels before 5.10 skip it.
	chainUserdata = 12

	hookNum      = 1
	hookPriority = 2
	hookDev      = 3
	hookDevs     = 4

	ruleChain    = 2
	ruleExprs    = 4
	ruleUserdata = 7

	exprName = 1
	exprData = 2

	setName     = 2
	setFlags    = 3
	setKeyType  = 4
	setKeyLen   = 5
	setDataType = 6
	setDataLen  = 7
	setDesc     = 9
	setID       = 10
	setTimeout  = 11 // milliseconds
	setUserdata = 13

	descSize    = 1
	descConcat  = 2
	fieldLength = 1

	setAnonymous = 1 << 0
	setInterval  = 1 << 2
	setMap       = 1 << 3
	setExpiring  = 1 << 4
	setDynamic   = 1 << 5
	setConcat    = 1 << 7

	elemListSet   = 2
	elemListElems = 3

	elemKey     = 1
	elemData    = 2
	elemFlags   = 3
	elemTimeout = 4
	elemExpr    = 7
	elemObject  = 9
	elemKeyEnd  = 10
	elemExprs   = 11

	elemIntervalEnd = 1
	dataValue       = 1

	objName = 2
	objType = 3
	objData = 4

	objectCounter  = 1
	counterBytes   = 1
	counterPackets = 2

	genID = 1
)
