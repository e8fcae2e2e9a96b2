// SPDX-License-Identifier: GPL-3.0-only
pragma circom 2.1.6;

// Freivalds' check of C = A·Bᵀ, eight rows at a time.
//
// a[g][j] and c[g][i] hold rows 8g … 8g+7 as the digits of one number: Σ_{r<8} row_r · 2^(31·r). With x_i = rho^i:
//
//     Σ_j a[g][j] · (Σ_i b[i][j]·x_i)  =  Σ_i c[g][i]·x_i      for every group g
//
// Both sides are polynomials in rho of degree below n. They are the same one only if c[g][i] = Σ_j a[g][j]·b[i][j]
// mod p for every i; otherwise they meet in at most n − 1 of the p values of rho.
//
// The caller guarantees: rho is drawn after a, b and c are fixed (a hash over commitments to all three); the digits of
// a are int8, and b are int8. Then |row_r of c| ≤ k·2^14 < 2^30 for k ≤ 65535, the sums stay under p/2 and the equation
// mod p is one of integers: c needs no range check, for it equals a number whose digits are known to fit.
//
// Constraints: n·k products with x, (m/8)·(k + n) of the check, n − 2 powers.
template PackedFreivalds(groups, k, n) {
    signal input rho;
    signal input a[groups][k];
    signal input b[n][k];
    signal input c[groups][n];

    signal x[n];
    x[0] <== 1;
    for (var i = 1; i < n; i++) { x[i] <== x[i - 1] * rho; }

    signal bx[n][k];
    signal y[k];
    for (var j = 0; j < k; j++) {
        var sum = 0;
        for (var i = 0; i < n; i++) {
            bx[i][j] <== b[i][j] * x[i];
            sum += bx[i][j];
        }
        y[j] <== sum;
    }

    signal ay[groups][k];
    signal cx[groups][n];
    for (var g = 0; g < groups; g++) {
        var left = 0;
        var right = 0;
        for (var j = 0; j < k; j++) {
            ay[g][j] <== a[g][j] * y[j];
            left += ay[g][j];
        }
        for (var i = 0; i < n; i++) {
            cx[g][i] <== c[g][i] * x[i];
            right += cx[g][i];
        }
        left === right;
    }
}
