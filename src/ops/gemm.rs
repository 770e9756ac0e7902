//! Matrix products on slices: the one door to the `gemm` crate, whose interface is raw pointers.

use crate::kernel::Real;

/// A matrix seen in a slice: element (i, j) at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    pub data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A row-major matrix.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }
    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
    fn span(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// `c = a b`, or `c += a b` with `accumulate`; `c` is row-major. One thread: callers run over pictures in parallel.
pub fn matmul<T: Real>(c: &mut [T], accumulate: bool, a: Mat<T>, b: Mat<T>) {
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(c.len() >= a.rows * b.cols && a.data.len() >= a.span() && b.data.len() >= b.span(), "a matrix leaves its slice");
    let keep = if accumulate { T::one() } else { T::zero() };
    // SAFETY: the asserts above keep every element that gemm reads or writes inside its slice, and `c` is borrowed mutably,
    // so it overlaps neither input. The crate has no safe interface.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            c.as_mut_ptr(),
            1,
            b.cols as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            keep,
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes() {
        let a = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0f64, 0.0, 2.0, 1.0, 0.0, 3.0];
        let mut c = [9.0; 4];
        matmul(&mut c, false, Mat::new(&a, 2, 3), Mat::new(&b, 3, 2));
        assert_eq!(c, [5.0, 11.0, 14.0, 23.0]);
        matmul(&mut c, true, Mat::new(&a, 2, 3), Mat::new(&b, 2, 3).t());
        assert_eq!(c, [5.0 + 7.0, 11.0 + 10.0, 14.0 + 16.0, 23.0 + 22.0]);
    }

    /// What keeps the unsafe call inside its slices.
    #[test]
    fn a_matrix_that_leaves_its_slice_is_refused() {
        let spans = |rows, cols, row_stride, col_stride| Mat { data: &[0.0f32; 0], rows, cols, row_stride, col_stride }.span();
        assert_eq!(spans(3, 4, 10, 1), 24);
        assert_eq!(spans(3, 4, 2, 7), 26);
        assert_eq!(spans(1, 1, 9, 9), 1);
        assert_eq!([spans(0, 4, 10, 1), spans(3, 0, 10, 1)], [0, 0]);
        let (full, short) = ([1.0f32; 6], [1.0f32; 5]);
        let refused = |a: &[f32], b: &[f32], len: usize| {
            let mut c = vec![0.0; len];
            std::panic::catch_unwind(move || matmul(&mut c, false, Mat::new(a, 2, 3), Mat::new(b, 3, 2))).is_err()
        };
        assert!(!refused(&full, &full, 4));
        assert!(refused(&short, &full, 4) && refused(&full, &short, 4) && refused(&full, &full, 3));
    }
}
