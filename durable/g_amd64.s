#include "textflag.h"

// func getg() uintptr
TEXT ·getg(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET

// func getpanic() uintptr
TEXT ·getpanic(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ 32(AX), AX
	MOVQ AX, ret+0(FP)
	RET
