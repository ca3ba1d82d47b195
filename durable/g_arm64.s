#include "textflag.h"

// func getg() uintptr
TEXT ·getg(SB), NOSPLIT, $0-8
	MOVD g, R0
	MOVD R0, ret+0(FP)
	RET

// func gword(offset uintptr) uintptr
TEXT ·gword(SB), NOSPLIT, $0-16
	MOVD offset+0(FP), R0
	ADD g, R0
	MOVD (R0), R0
	MOVD R0, ret+8(FP)
	RET
